"""What hbpipe costs beside other programs: `make bench`."""
