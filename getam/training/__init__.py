"""Training: one loop, the losses, and training by several processes.

loop         resumable training of any network
losses       cross-entropies, the classification loss, the saliency loss
crf_loss     the dense-CRF energy
joint        the joint step of the end-to-end mode
distributed  shares work among several processes, and joins their results
batchnorm    batch normalisation over the batches of several processes
"""
