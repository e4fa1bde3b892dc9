"""Local models through MLX: the only place that imports mlx, mlx_lm and huggingface_hub.

All of them are imported inside functions: together they cost seconds, and most runs of `llm`
never need them.
"""
