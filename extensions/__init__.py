"""Extensions adapt lavie from outside, through its public seams; they know neither the app nor each other."""
