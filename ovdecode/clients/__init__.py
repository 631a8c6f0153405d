"""Evaluation harnesses that decode through ovdecode, with any strategy: lm-evaluation-harness and inspect_ai.

Their packages are extras. The modules here import without them, and say what to install once they are needed.
"""
