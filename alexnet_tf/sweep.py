def is_member(w): return False
