"""For the people who work on the project: goldens, models, measurements."""
