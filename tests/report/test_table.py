import io

from rich.console import Console

from prunus.report import arms_markdown, arms_table, levels_table
from prunus.report.table import Cell, arms_grid, delivered_grid, levels_grid


def printed(result, width=120):
    console = Console(width=width, file=io.StringIO())
    console.print(arms_table(result))
    return console.file.getvalue()


def test_columns_compare_with_the_dense_network(resnet20):
    grid = arms_grid(resnet20)
    assert grid.headings == (
        "Arm",
        "Accuracy",
        "Parameters",
        "MACs",
        "File",
        "Latency",
        "Speed-up",
        "Epochs",
    )
    assert [(cell.text, cell.note) for cell in grid.rows[1]] == [
        ("fine-tuned", ""),
        ("91.56 %", "-0.57 points"),
        ("151 k", "56.1 %"),
        ("20.3 M", "49.7 %"),
        ("633 KiB", "57.7 %"),
        ("0.688 ms", "0.679 to 0.701"),
        ("1.72x", "1.68 to 1.75"),
        ("40", ""),
    ]


def test_pixels_and_words_have_columns_of_their_own():
    dense = {"name": "dense", "accuracy": 0.8, "mean_iou": 0.5, "perplexity": 80.0}
    grid = arms_grid({"arms": [dense, dense | {"mean_iou": 0.45, "perplexity": 83.125}]})
    assert grid.headings == ("Arm", "Accuracy", "Mean IoU", "Perplexity")
    assert [(cell.text, cell.note) for cell in grid.rows[1][2:]] == [
        ("45.00 %", "-5.00 points"),
        ("83.12", "+3.12"),
    ]


def test_no_difference_is_told_that_the_noise_covers(resnet20):
    noise = {"median": 1.8, "low": 0.79, "high": 2.28}
    resnet20["arms"][1]["speedup"] = resnet20["delivered"][2]["speedup"] = noise
    for grid in (arms_grid(resnet20), delivered_grid(resnet20["delivered"])):
        column = [row[grid.headings.index("Speed-up")] for row in grid.rows]
        assert Cell("no difference", "0.79 to 2.28") in column


def test_only_columns_that_some_arm_has():
    result = {"arms": [{"name": "dense", "params": 1000}, {"name": "x", "params": None, "macs": 5}]}
    grid = arms_grid(result)
    assert grid.headings == ("Arm", "Parameters", "MACs")
    assert [cell.text for cell in grid.rows[1]] == ["x", "", "5"]


def test_nonzero_shows_only_where_it_differs_from_the_parameters():
    dense = {"name": "dense", "params": 1000, "nonzero": 1000}
    assert "Non-zero" not in arms_grid({"arms": [dense]}).headings
    sparse = {"name": "sparse", "params": 1000, "nonzero": 100}
    grid = arms_grid({"arms": [dense, sparse]})
    assert grid.rows[1][grid.headings.index("Non-zero")].note == "10.0 %"


def test_without_a_dense_arm_nothing_is_compared():
    grid = arms_grid({"arms": [{"name": "only", "accuracy": 0.5, "params": 10}]})
    assert all(cell.note == "" for cell in grid.rows[0])


def test_the_terminal_shows_names_as_they_are(resnet20):
    resnet20["arms"][1]["name"] = "[red]l1[/red] [/oops]"
    text = printed(resnet20)
    assert "[red]l1[/red] [/oops]" in text
    assert "1.68-1.75" in text


def test_markdown_has_one_line_per_arm_and_no_live_markup(resnet20):
    resnet20["arms"][1]["name"] = "a|b\n*c* <script>"
    lines = arms_markdown(resnet20).splitlines()
    assert len(lines) == 2 + 4
    assert lines[0].startswith("| Arm | Accuracy |")
    assert lines[1].startswith("| --- | ---: |")
    assert lines[3].startswith(r"| a\|b \*c\* \<script\> | 91.56 % (-0.57 points) |")


def test_no_arms_no_table():
    assert arms_markdown({}) == ""
    assert arms_table({}).row_count == 0


def test_the_levels_of_a_method_that_rewinds():
    levels = [
        {"density": 1.0, "early_stop": 1300, "early_stop_accuracy": 0.9761, "final_accuracy": 0.98},
        {
            "density": 0.8004,
            "early_stop": None,
            "early_stop_accuracy": None,
            "final_accuracy": None,
        },
    ]
    rows = levels_grid({"levels": levels}).rows
    assert [[cell.text for cell in row] for row in rows] == [
        ["0", "100.0 %", "1,300 it", "97.61 %", "98.00 %"],
        ["1", "80.0 %", "", "", ""],
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(levels_table({"levels": levels}))
    assert "1,300 it" in console.file.getvalue()
    assert levels_table({"levels": None}) is None
    assert levels_table({}) is None
