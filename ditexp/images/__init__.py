"""Sets of images: scikit-learn's digits, npz files, folders, torchvision's data sets. All are read block by block."""
