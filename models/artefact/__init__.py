"""Models on disk: card, parity proof, digests, and directories that appear whole or not at all."""
