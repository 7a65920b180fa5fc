"""Checkpoints, graphs and packs from the Hugging Face Hub: which files they need, and fetching these."""
