setUpTheme();
setUpCopying();
setUpFilter();
setUpCharts();
setUpTable();
setUpPictures();
applyFilter();
requestAnimationFrame(() => setTimeout(() => performance.mark("ready"))); // after the first paint
