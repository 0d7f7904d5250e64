"""Memory worlds as Gymnasium environments and as scripted episode generators."""
