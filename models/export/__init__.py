"""From a published or trained model to an artefact, and the proof that nothing was lost on the way."""
