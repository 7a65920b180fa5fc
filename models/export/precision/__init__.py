"""The lower-precision graphs of an artefact: float16 and int8."""
