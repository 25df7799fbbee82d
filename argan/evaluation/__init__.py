"""What a model is worth: its depth against truth and figure masks, its samples against photographs."""
