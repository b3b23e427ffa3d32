"""A machine with four nodes, a disk on one of them and a balloon: QEMU, Debian's kernel, and the parts built here.

Nothing is installed and nothing needs a privilege: packages are downloaded with apt and unpacked into a folder of the
checkout, and QEMU emulates the processor, so that neither KVM nor a control group of this machine is needed.
"""
