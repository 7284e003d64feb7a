"""The endpoints of MONAI Label's protocol, a module for each of its parts."""
