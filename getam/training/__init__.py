"""Training: one loop, the losses, and training by several processes.

loop         resumable training of any network
checkpoint   the state of a training in a file
signals      signals that end a process, held back until a step is whole
losses       cross-entropies, the classification loss, the saliency loss
crf_loss     the dense-CRF energy
joint        the joint step of the end-to-end mode; joint_start: its weights; joint_items: its data
distributed  shares work among several processes, and joins their results
batchnorm    batch normalisation over the batches of several processes
"""
