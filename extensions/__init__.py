"""Extensions adapt lavie through its public interfaces. They import neither the app nor each other."""
