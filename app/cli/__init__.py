"""The commands, a file a group. They turn arguments into values, and outcomes into exit codes."""
