"""From sampled images to a release folder that opens with no library of ours."""
