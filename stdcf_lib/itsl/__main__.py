import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["predict"]:
        from stdcf_lib.itsl.predict import main
    else:
        from stdcf_lib.itsl.command import main
    main()
