"""From files to training maps: formats, augmentation, targets, the training set, and synthetic receipts."""
