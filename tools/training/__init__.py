"""The training of the default model: data, the check for test texts in it, distillation, the model card."""
