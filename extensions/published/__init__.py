"""Converts the published weights of the LaVie family to a bundle, and compares a bundle with its record. Uses no
network.

A `.pt` file is a pickle in a zip, that is, a program. `archive` inspects it without running it. `child` opens it in a
process without network and with little memory (`isolation`) and writes it tensor by tensor. `facts` and `layout`
describe what was published, `convert` makes and verifies bundles. This module imports none of them, so that the process
needs neither diffusers nor transformers.
"""
