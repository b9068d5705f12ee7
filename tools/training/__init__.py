"""How the default model is trained: its data, the check that no test stands in it, distillation, the model card."""
