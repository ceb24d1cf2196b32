"""Where half precision hurts a model: one step in float32 and in another precision, compared layer by layer."""
