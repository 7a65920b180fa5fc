"""Readers of evaluation sets on disk: LFW, the `.bin` sets of insightface, IJB and the user's pictures."""
