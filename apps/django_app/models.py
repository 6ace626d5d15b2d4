"""The tables of database/schema.sql; Django does not manage them."""

from __future__ import annotations

from django.db import models


class User(models.Model):
    """Is an author of posts and comments."""

    id = models.IntegerField(primary_key=True)
    name = models.TextField()
    latitude = models.FloatField()
    longitude = models.FloatField()

    class Meta:  # noqa: D106
        app_label = "django_app"
        managed = False
        db_table = "users"


class Post(models.Model):
    """Is what db-test reads."""

    id = models.IntegerField(primary_key=True)
    author = models.ForeignKey(User, models.DO_NOTHING, related_name="posts")
    title = models.TextField()
    body = models.TextField()

    class Meta:  # noqa: D106
        app_label = "django_app"
        managed = False
        db_table = "posts"


class Comment(models.Model):
    """Belongs to a post."""

    id = models.IntegerField(primary_key=True)
    post = models.ForeignKey(Post, models.DO_NOTHING, related_name="comments")
    author = models.ForeignKey(User, models.DO_NOTHING, related_name="comments")
    body = models.TextField()

    class Meta:  # noqa: D106
        app_label = "django_app"
        managed = False
        db_table = "comments"


class Transaction(models.Model):
    """Is what the insert scenario writes; `user_id` is a plain number, as in the schema."""

    id = models.BigAutoField(primary_key=True)
    user_id = models.IntegerField()
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    note = models.TextField()
    created_at = models.DateTimeField()

    class Meta:  # noqa: D106
        app_label = "django_app"
        managed = False
        db_table = "transactions"


class HotRow(models.Model):
    """Is what the hot-row scenario updates."""

    id = models.IntegerField(primary_key=True)
    hits = models.BigIntegerField()

    class Meta:  # noqa: D106
        app_label = "django_app"
        managed = False
        db_table = "hot_rows"
