"""Who may run now, who may speak now."""
