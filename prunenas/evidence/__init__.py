"""Evidence: does the architecture win, and why?"""
