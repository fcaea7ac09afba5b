"""What moves and changes model files: heads taken out and put in.

Every tool says what became of the prediction head; none drops one in silence.
"""
