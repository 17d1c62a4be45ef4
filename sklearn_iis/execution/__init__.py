"""Running the evaluations of a stage, and recording what comes out."""
