"""The published weights of the LaVie family → a bundle, and a bundle compared with what was written. No network.

A `.pt` file is a pickle in a zip: a program. It is looked at without being run (`archive`, `pickles`), opened by torch
in a process of its own that has no network and little memory (`child`, `isolation`), and written on tensor by tensor
(`streaming`). `facts` and `layout` say what was published, `convert` makes a bundle of it, `record` keeps what was
made, `verify` compares. This module imports none of them: the process needs neither diffusers nor transformers.
"""
