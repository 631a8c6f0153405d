"""Who drafts for speculative sampling."""
