"""Models on disk: card, parity proof, digests, and directories that are replaced atomically."""
