"""Training: from texts to weights, and back to a checkpoint that the layouts read.

Read in this order:

    settings, data, batches         the recipe, the examples, and which of them a step sees
    start, pca, saving              the model that training starts from; a projection fitted to data; the checkpoint
    embed, maxsim                   token vectors with gradients; MaxSim of all pairs and its gradient
    losses, objective               the losses of `refcolbert.definition` in torch; their weighted sum over a batch
    late_interaction, cross_encoder the two architectures
    optimizer, state, validate      AdamW and schedule; resuming; ranking of held-out documents
    plot, malloc, loop              the loss curve; glibc's memory; the loop
"""
