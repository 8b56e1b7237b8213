"""Models: what is there, how to download and convert the published weights, and the loaded model.

Importing these modules needs neither torch nor huggingface_hub.
"""
