"""Pictures of evaluations, by matplotlib without a display, and videos."""
