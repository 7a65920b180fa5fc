"""Sets of pictures as they lie on disks: LFW's, insightface's, IJB's, and the user's own."""
