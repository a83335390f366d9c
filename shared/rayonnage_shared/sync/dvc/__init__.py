"""DVC: dataset versions, photos and bundles on a remote."""
