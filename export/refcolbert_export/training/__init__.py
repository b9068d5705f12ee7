"""Training: from examples to a checkpoint in a layout that `layouts` reads.

Read in this order:

    settings, data, batches          the options of a run, the examples, the batch of each step
    start, pca, saving               the model before training; a projection fitted to data; the saved checkpoint
    embed, maxsim                    token vectors with gradients; MaxSim of all pairs and its gradient
    losses, objective                the losses of `refcolbert.definition` in torch; their weighted sum over a batch
    late_interaction, cross_encoder  the two architectures
    optimizer, state, validate       AdamW and schedule; resuming; ranking of held-out documents
    plot, malloc, loop               the loss curve; glibc's memory; the training loop

It may import the core, `layouts`, `model`, `cross_encoder` and `parity.reference`. `settings` imports no torch. The
names are not an API.
"""
