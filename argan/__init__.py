"""argan: depth and depth-of-field learned from unlabelled photographs, rendered on real photos, exported anywhere."""
