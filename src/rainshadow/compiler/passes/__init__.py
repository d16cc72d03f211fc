"""The compiler's passes, one file each; `compiler.build` applies them in order."""
