"""Photometry in, p(z) out, over HTTP: the champions behind one small API. It reads model files and runs none."""
