"""Training: one loop, the losses, and what several processes share.

loop         resumable training of any network
losses       cross-entropies, the classification loss, the saliency loss
crf_loss     the dense-CRF energy
joint        the joint step of the end-to-end mode
distributed  several processes that compute one thing; ``batchnorm`` is their batch normalisation
"""
