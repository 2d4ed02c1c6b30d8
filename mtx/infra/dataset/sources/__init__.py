"""infra/dataset/sources"""
