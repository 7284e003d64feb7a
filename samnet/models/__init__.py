"""SAM's encoders and their adaptation: backbones, LoRA, heads, and the network of a plan."""
