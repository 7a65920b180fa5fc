"""Computation of the embeddings of an evaluation set, by the pipeline that also serves requests."""
