"""From the pictures of a set to their embeddings, by the pipeline that serves."""
