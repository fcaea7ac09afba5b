"""What can be done with model files besides running them: one module or folder per verb.

Every tool says what became of the prediction head; none drops one in silence.
"""
