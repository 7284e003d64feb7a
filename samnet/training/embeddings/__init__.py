"""What a frozen encoder makes of slices: computed once, kept on disk, trained on."""
