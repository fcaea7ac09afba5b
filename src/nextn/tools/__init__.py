"""What can be done with model files besides running them: one module or folder per verb."""
