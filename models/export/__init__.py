"""Turn a trained checkpoint or a published graph into an artefact, and prove that it is still the same model."""
