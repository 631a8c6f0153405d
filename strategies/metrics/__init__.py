"""Metrics by what they look at: likelihood, repetition, diversity, references, answers, copying, cost."""
