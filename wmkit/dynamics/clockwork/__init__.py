"""`clockwork`: a hierarchy of latent levels that tick ever more slowly."""
